"""What every call goes through at the edge, whichever service it is for."""
