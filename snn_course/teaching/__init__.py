"""What takes a learner through the course."""
