"""Attention that tokens receive, summed over the newest queries, without a queries x tokens matrix."""
