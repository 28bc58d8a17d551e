"""The command line: thin assemblies that parse, call and print."""
