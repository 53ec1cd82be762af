"""The parts of the Pong capstone: emulator, network, learners, spikes, perception, benchmark."""
