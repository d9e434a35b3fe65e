"""Child processes: started warm, limited in memory and time, replaced when they die."""
