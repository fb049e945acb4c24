"""Experiments on recurrent cells: tasks with long lags, gradients, cells compared."""
