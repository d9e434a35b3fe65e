"""Rankings that a cron expression repeats: when they are due, what they ask, what they told."""
