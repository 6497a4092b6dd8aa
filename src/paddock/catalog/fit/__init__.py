"""What a task needs of a machine, worked out from descriptions: no weight is read, nothing is loaded.

    subject     what is to be run: an architecture, and how its weights are stored
    plan        the answer: components by phase, each with its formula; the verdict
    serving     to answer requests: weights, cache, activations, logits, framework
    training    to train: gradients and optimiser states as well, by method
    devices     over several devices, and how long it takes
    limits      the largest context or batch that fits

`benchmarks/fit.py` compares what is predicted here with peaks measured in fresh processes.
"""
