"""What the Makefile calls: set-up, book, exercises, lock file. Not part of the installed package."""
