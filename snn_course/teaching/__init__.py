"""What takes a learner through the course: exercises, quizzes, bug hunts, what is done, and the book."""
