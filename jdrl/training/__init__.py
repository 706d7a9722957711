"""The JDRL trainer: schedule, optimiser step, state, processes, logs and recipes."""
