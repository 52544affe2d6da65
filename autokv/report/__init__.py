"""What a person sees of a finished search: files, pictures and words."""

from autokv.report.describe import describe, explain
from autokv.report.results import write_results

__all__ = ["describe", "explain", "write_results"]
