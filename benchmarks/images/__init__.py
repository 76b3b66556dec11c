"""Every combination of the LDM family on images: what can be read from the features, and what they cost."""
