"""The commands of the command line, one module for those that belong together; `cli.py` lists them."""
