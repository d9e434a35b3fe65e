"""Telling other programs what happened, as the Standard Webhooks specification says (standardwebhooks.com)."""
