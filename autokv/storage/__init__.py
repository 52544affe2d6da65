"""Storage: requests, trials, fronts and configurations in a database, durable as soon as they are written."""

from autokv.storage.configurations import StoredConfiguration
from autokv.storage.database import Database
from autokv.storage.jobs import Job
from autokv.storage.lease import Lease

__all__ = ["Database", "Job", "Lease", "StoredConfiguration"]
