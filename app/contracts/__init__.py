"""What the API, the workflows, the extractor and the scorers hand each other. Values only; one file a subject."""
