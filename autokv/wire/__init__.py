"""What travels over HTTP: the server's schemas and the client's types, one and the same. Loads without torch."""

from autokv.wire.common import Page, Problem, ProblemField, View
from autokv.wire.configurations import (
    AliasMove,
    AliasMoveRequest,
    AliasRollbackRequest,
    AliasView,
    ConfigurationView,
    Recommendation,
)
from autokv.wire.jobs import (
    AttemptView,
    Condition,
    DecisionView,
    Event,
    FrontPointView,
    FrontView,
    JobSubmission,
    JobView,
    Labels,
    MatchingWorkers,
    Progress,
    QueuePlace,
    TrialView,
    ValidationView,
)
from autokv.wire.resources import HardwareProfileView, ModelView, UploadView, WorkerView

__all__ = [
    "AliasMove",
    "AliasMoveRequest",
    "AliasRollbackRequest",
    "AliasView",
    "AttemptView",
    "Condition",
    "ConfigurationView",
    "DecisionView",
    "Event",
    "FrontPointView",
    "FrontView",
    "HardwareProfileView",
    "JobSubmission",
    "JobView",
    "Labels",
    "MatchingWorkers",
    "ModelView",
    "Page",
    "Problem",
    "ProblemField",
    "Progress",
    "QueuePlace",
    "Recommendation",
    "TrialView",
    "UploadView",
    "ValidationView",
    "View",
    "WorkerView",
]
