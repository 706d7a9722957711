"""The JDRL trainer: schedule, step, state, processes, logs and recipes."""
