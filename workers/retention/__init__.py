"""Removes what is past its time, and says what it removed."""
