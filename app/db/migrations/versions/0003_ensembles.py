"""One word for one thing: a ranking stores ensembles that were chosen, and ensembles that were given."""

import copy
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

RANKINGS = sa.table(
    "rankings",
    sa.column("id", sa.String),
    sa.column("request", sa.JSON(none_as_null=True)),
    sa.column("ensembles", sa.JSON(none_as_null=True)),
)


def upgrade() -> None:
    """Rename inside the stored JSON."""
    _rewrite({"teams": "given_ensembles", "team": "given_ensemble"}, {"teams": "ensembles"})


def downgrade() -> None:
    """Give the old names back."""
    _rewrite({"given_ensembles": "teams", "given_ensemble": "team"}, {"ensembles": "teams"})


def _rewrite(names: dict[str, str], standardizations: dict[str, str]) -> None:
    connection = op.get_bind()
    for row in connection.execute(sa.select(RANKINGS)).all():
        request, answers = copy.deepcopy(row.request), copy.deepcopy(row.ensembles)
        _rename(request, names)
        for choice in [*request.get("ensembles", []), *(answer["request"] for answer in answers or [])]:
            _rename(choice, names)
            if choice.get("standardize") in standardizations:
                choice["standardize"] = standardizations[choice["standardize"]]
        if (request, answers) != (row.request, row.ensembles):
            changed = sa.update(RANKINGS).where(RANKINGS.c.id == row.id).values(request=request, ensembles=answers)
            connection.execute(changed)


def _rename(entry: dict[str, Any], names: dict[str, str]) -> None:
    for old, new in names.items():
        if old in entry:
            entry[new] = entry.pop(old)
