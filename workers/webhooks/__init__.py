"""Brings messages to their receivers."""
