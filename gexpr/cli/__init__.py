"""The command line: one file a command, each of which parses, validates and makes one library call."""
