"""Forerank's HTTP front end, and the storage that it shares with the workers."""
