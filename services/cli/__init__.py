"""The command line. One module a noun; what they share is named after what it does.

Importing a command's module is cheap: torch, gRPC and rich are imported where they are used.
"""
