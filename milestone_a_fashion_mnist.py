"""Milestone A: Fashion-MNIST.

Question: Which spiking network would you build for Fashion-MNIST, how good is
          it, what do its spikes cost?

Lessons 01 to 09 led you by the hand. Now you are alone: a spiking network from
scratch, without a scaffold. Write workspace/milestone_a_fashion_mnist.py.

Tasks
 1. Choose a neuron model, Leaky or Synaptic, and write down why.
 2. Choose how images become spikes (rate, latency, direct), and write down why.
 3. Design the network: depth, width, beta, threshold.
 4. Train it with BPTT, a surrogate gradient and a loss of your choice.
 5. Reach more than 85 % of the test images (90 is merit, 93 distinction).
 6. Draw the spikes of each layer, training curves and a confusion matrix.
 7. Write about a page under Milestone A in journal.md: how does sparsity change
    across layers? What do fewer spikes cost in accuracy?

Rules
 - Between layers travel spikes, 0 or 1. Say whether the answer is read from
   spikes or from membranes.
 - Choose on images set aside from the training set. Use the test images once.
 - Look up what you like in lessons and libraries; solutions/ only afterwards.

How it is checked
 - End your script as lessons do: main(config, run), lesson.start(main, ...).
 - Task 5 looks at run.measure("test accuracy", accuracy, "%", headline=True),
   task 6 counts what run.figure draws. You judge the rest.
 - .venv/bin/python milestone_a_fashion_mnist.py runs your script, and says what
   is met (on Windows: .venv\\Scripts\\python). This page again: --brief.
   Results: results/milestone_a_fashion_mnist_own.
"""

from snn_course.runs import own_work

MARKS = {"pass": 85.0, "merit": 90.0, "distinction": 93.0}  # more than so many % of the test images

if __name__ == "__main__":
    own_work.start(__doc__ or "", MARKS)
