"""`python -m kalmanssl` is the command `kalmanssl`."""

from kalmanssl.cli import main

if __name__ == "__main__":
    main()
