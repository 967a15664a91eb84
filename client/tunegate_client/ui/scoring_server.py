"""The web server of the page on which one person scores items. Only the person who started it can use it: the
address has a secret token."""

import asyncio
import logging
import secrets
from collections.abc import Callable
from http import HTTPStatus
from typing import Generic

from aiohttp import web
from aiohttp.typedefs import Handler

from tunegate_client.places.client import ClientError
from tunegate_client.places.scoring import Answer, Session
from tunegate_client.ui.local_server import make_local_app, page, refuse_other_host, serve_app
from tunegate_client.ui.scoring import QUIT, Questionnaire, do, render, render_end
from tunegate_client.ui.threads import in_daemon_thread

logger = logging.getLogger(__name__)

Save = Callable[[], None]


def serve_scoring(
    session: Session[Answer],
    questionnaire: Questionnaire[Answer],
    save: Save,
    started: Callable[[str], None],
) -> None:
    """Serve the page until the person submits the answers or quits, or until the process gets SIGINT, SIGTERM
    or SIGHUP. Calls ``started`` with the address.

    ``save`` saves the answers of the session. It is called in another thread after each change, and may
    raise ClientError, which the page shows."""
    token = secrets.token_urlsafe(24)
    serve_app(
        lambda stop: make_scoring_app(session, questionnaire, save, token, stop.set),
        0,
        lambda address: started(f"{address}{token}/"),
    )


def make_scoring_app(
    session: Session[Answer],
    questionnaire: Questionnaire[Answer],
    save: Save,
    token: str,
    stop: Callable[[], None],
) -> web.Application:
    """Return the application that serves the page. It calls ``stop`` when the person has ended the
    session."""
    server = _ScoringServer(session, questionnaire, save, token, stop)
    app = make_local_app(server.guard)
    app.router.add_get("/{token}/", server.show)
    app.router.add_post("/{token}/", server.act)
    return app


class _ScoringServer(Generic[Answer]):
    def __init__(
        self,
        session: Session[Answer],
        questionnaire: Questionnaire[Answer],
        save: Save,
        token: str,
        stop: Callable[[], None],
    ) -> None:
        self._session = session
        self._questionnaire = questionnaire
        self._save = save
        self._token = token.encode()
        self._stop = stop
        self._has_ended = False
        self._problem = ""
        self._saved = self._state()
        self._lock = asyncio.Lock()

    @web.middleware
    async def guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse other hosts and other tokens, and answer errors with a line of text."""
        refused = refuse_other_host(request)
        if refused:
            return refused
        token = request.match_info.get("token")
        if token is not None and not secrets.compare_digest(token.encode(), self._token):
            return web.Response(
                status=HTTPStatus.FORBIDDEN, text="open the address that the command in the terminal printed"
            )
        try:
            return await handler(request)
        except web.HTTPException as error:
            allowed = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
            return web.Response(status=error.status, text=error.reason, headers=allowed)
        except Exception:
            logger.exception("internal error while answering %s", request.method)
            return web.Response(
                status=HTTPStatus.INTERNAL_SERVER_ERROR, text="the terminal has the details of this error"
            )

    async def show(self, request: web.Request) -> web.Response:
        return page(request, self._text())

    async def act(self, request: web.Request) -> web.Response:
        """Carry out an action of the page, one after the other, and save the answers if they changed."""
        form = {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
        async with self._lock:
            if not self._has_ended:
                try:
                    do(self._session, self._questionnaire, form)
                except ValueError as error:
                    raise web.HTTPBadRequest(reason="this page is out of date: reload it") from error
                self._has_ended = self._session.is_submitted or form.get("do") == QUIT
                if not self._has_ended:
                    await self._save_changes()
        if self._has_ended:  # answered here, because the server does not answer another request
            self._stop()
            return page(request, self._text())
        return web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": request.path})

    async def _save_changes(self) -> None:
        state = self._state()
        if state == self._saved and not self._problem:
            return
        try:
            await in_daemon_thread(self._save)
        except ClientError as error:
            self._problem = str(error)
        else:
            self._saved, self._problem = state, ""

    def _state(self) -> tuple[dict[str, Answer], dict[str, str]]:
        return self._session.kept_answers, dict(self._session.notes)

    def _text(self) -> str:
        if self._has_ended:
            return render_end(self._session, self._questionnaire)
        return render(self._session, self._questionnaire, self._problem)
