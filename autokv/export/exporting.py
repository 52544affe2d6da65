"""One configuration for one target: its fidelity, what is known to go wrong, and the files."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from autokv.config import CompressionConfig
from autokv.errors import ConfigError
from autokv.export.fidelity import Fidelity
from autokv.export.findings import Device, Finding
from autokv.export.target import Artifact, Target
from autokv.models.facts import ModelFacts


@dataclass(frozen=True)
class Export:
    """What ``autokv export`` tells."""

    target: Target
    fidelity: Fidelity
    findings: tuple[Finding, ...]
    artifacts: tuple[Artifact, ...]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "target": self.target.name,
            "version": self.target.version,
            "source": self.target.source,
            **self.fidelity.to_dict(),
            "findings": [asdict(finding) for finding in self.findings],
            "artifacts": [asdict(artifact) for artifact in self.artifacts],
        }

    def check_exact(self) -> None:
        """Check that the target runs exactly the configuration.

        Raises:
            ConfigError: it does not; the message names what changes, or why the engine refuses.
        """
        title = self.target.title
        refused = next((finding for finding in self.findings if finding.level == "refusal"), None)
        if self.fidelity.level != "exact":
            parts = ", ".join(change.stage for change in self.fidelity.changes)
            level = self.fidelity.level.replace("_", " ")
            raise ConfigError(
                f"for {title} it is {level}: {parts} would change",
                field="pipeline",
                remedy="leave --strict out to see how",
            )
        if refused is not None:
            raise ConfigError(f"{title}: {refused.message}", field="pipeline", remedy=f"see {refused.source}")


def export(
    target: Target,
    config: CompressionConfig,
    *,
    facts: ModelFacts | None = None,
    model: str | None = None,
    device: Device | None = None,
    backend: str | None = None,
) -> Export:
    """``config`` for ``target``.

    Args:
        target: one of :data:`autokv.export.TARGETS`.
        config: what is asked for.
        facts: of the model, whose heads not every format fits and whose layers may be counted from the last.
        model: what the engine is to load, as it stands in its files.
        device: what it runs on.
        backend: the engine's attention backend.

    Raises:
        ConfigError: the engine has no such backend, or its files cannot be written without ``facts``.
    """
    fidelity = target.hold(config, facts)
    return Export(
        target,
        fidelity,
        target.check(fidelity.held, facts, device, backend),
        target.render(fidelity.held, facts, model),
    )
