"""The figures and tables of the LDM paper, made again in one command."""
