"""Tuning: the search over configurations, its front and the recommendation.

Requests and trials load without optuna; :func:`autokv.tuning.run.run_search` is the way in.
"""
