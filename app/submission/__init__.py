"""Making models, zoos and rankings from what is asked, by the same rules for a request and for a schedule."""
