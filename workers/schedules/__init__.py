"""Carries out what schedules ask for, and keeps the engine's scheduler true to their rows."""
