"""What the course asks of the learner: exercises, quizzes and bug hunts, and the record of what is done."""
