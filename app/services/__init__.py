"""The rules: what may be submitted, and what a change of state means. No SQL, no HTTP."""
