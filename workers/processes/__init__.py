"""Child processes: started warm, replaced when they die."""
