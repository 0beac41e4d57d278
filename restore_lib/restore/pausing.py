"""Pause a restore, for days if need be, and go on with it."""

from restore_lib.catalog import requests, waves
from restore_lib.catalog.requests import Request
from restore_lib.errors import Refused
from restore_lib.model.states import RequestState
from restore_lib.restore.request import note_action, start_restore
from restore_lib.site import Site


def pause_restore(site: Site, request_id: int, actor: str) -> Request:
    """Begin no batch of an active request any more, and recall no volume for it.

    Batches that run end; those that wait in a wave leave it, and volumes that are under way still
    arrive. All of that is in the catalog: it outlives restarts of whatever runs the request. One
    that is paused already stays as it is; Refused when it has not been started or has ended.
    """
    with site.catalog.write() as connection:
        requests.lock(connection, request_id)
        request = requests.request(connection, request_id)
        if request.state is RequestState.PAUSED:
            return request
        if request.state is not RequestState.ACTIVE:
            raise Refused(
                f"Restore request {request_id} is {request.state}: there is nothing to pause.",
                remedy="see `tapeflow restore list`",
            )
        requests.change_request(connection, request_id, RequestState.ACTIVE, RequestState.PAUSED)
        given_back = waves.give_back_planned(connection, request_id)
        note_action(
            connection, site, actor, "restore.pause", request_id, {"given_back": given_back}
        )
        return requests.request(connection, request_id)


def resume_restore(site: Site, request_id: int, actor: str) -> Request:
    """Let a paused request go on, or release one that nobody has started; others stay as they are.

    What has changed in between, such as volumes that were lost or moved, is planned for anew.
    """
    with site.catalog.write() as connection:
        requests.lock(connection, request_id)
        if requests.request(connection, request_id).state is RequestState.PAUSED:
            requests.change_request(
                connection, request_id, RequestState.PAUSED, RequestState.ACTIVE, at_once=None
            )
            note_action(connection, site, actor, "restore.resume", request_id, {})
    return start_restore(site, request_id, actor)
