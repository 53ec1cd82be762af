"""What takes a learner through the course: exercises, quizzes, bug hunts, the record of what is done, the book."""
