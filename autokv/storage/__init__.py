"""Storage: requests, trials, fronts and configurations in a database, durable as soon as they are written."""

from autokv.storage.configurations import StoredConfiguration
from autokv.storage.database import Database
from autokv.storage.jobs import Job
from autokv.storage.lease import Lease, this_host
from autokv.storage.queue import Claim

__all__ = ["Claim", "Database", "Job", "Lease", "StoredConfiguration", "this_host"]
