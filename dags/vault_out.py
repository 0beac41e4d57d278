"""Send closed tape sets to the vaults: send → wait for the receipts → arrived."""

from typing import Any

from airflow.sdk import DAG, Param, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from tapeflow_airflow.operators import WaitForShipments
from tapeflow_airflow.policies import TASK_DEFAULTS
from tapeflow_airflow.runs import TAPE_QUEUE, actor, configured, open_site, params, show

with DAG(
    "vault_out",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    default_args=TASK_DEFAULTS | {"queue": TAPE_QUEUE},
    tags=["tapeflow", "vault"],
    description="Send closed tape sets offsite, and wait until the vaults have them",
    doc_md="""
### Vault out
Ejects every volume of a closed tape set that no restore waits for, packs it so that no two volumes
of one set share a box, seals the shipments and announces them to the vaults.

* `send` logs the plan, makes the shipments and sends the packing lists. With nothing to send, the
  run ends as skipped.
* `wait` holds no worker. The receipts of couriers and vaults are worked through by `restore_wave`
  runs as they arrive, so that DAG must not be paused.
* `arrived` fails when a shipment ended with exceptions: a volume was not in the library, or did not
  reach its vault. `tapeflow vault list --all` names them.
""",
    params={
        "policy": Param(
            None,
            type=["string", "null"],
            examples=configured("policies"),
            title="Policy",
            description="Send only the tape sets of this policy; all of them when empty.",
            section="What to send",
        ),
        "wait_hours": Param(
            72.0,
            type="number",
            minimum=0.01,
            title="Wait (hours)",
            description="How long the vaults may take to confirm before the run fails.",
            section="Bounds",
        ),
    },
):

    @task
    def send() -> list[int]:
        """Plan, pack, seal and announce; return the ids of the shipments."""
        from restore_lib.vault.outbound import plan_vault_out, send_out

        with open_site() as site:
            plan = plan_vault_out(site, params()["policy"])
            show("The way out", plan.as_dict())
            shipments = send_out(site, plan, actor())
        if not shipments:
            msg = "There is no volume to send."
            raise AirflowSkipException(msg)
        return shipments

    @task
    def arrived(ids: list[int]) -> None:
        """Fail when a shipment did not arrive whole."""
        from restore_lib.catalog.shipments import shipment
        from restore_lib.model.shipment import ShipmentState

        with open_site() as site, site.catalog.read() as connection:
            found = {number: shipment(connection, number) for number in ids}
        states = {number: str(one.state) for number, one in found.items() if one is not None}
        show("Shipments", {str(number): state for number, state in states.items()})
        wrong = [number for number, state in states.items() if state != ShipmentState.CLOSED]
        if wrong:
            msg = f"Shipments {wrong} did not arrive whole: see `tapeflow vault list --all`."
            raise AirflowFailException(msg)

    sent: Any = send()
    waited = WaitForShipments(task_id="wait", ids=sent, hours="{{ params.wait_hours }}")
    waited >> arrived(sent)
