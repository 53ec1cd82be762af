"""Worked answers to the projects that a learner does alone: the folder where nobody looks first."""
