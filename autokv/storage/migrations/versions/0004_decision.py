"""Why a result recommends what it does.

Revision 0004, behind 0003; results that were stored before have no decision.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("results", sa.Column("decision", sa.JSON(), nullable=True))
