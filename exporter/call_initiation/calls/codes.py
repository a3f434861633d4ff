"""The code book: every code that we know of, what it means, whose concern it is, what to do, and how we know.

Laws: a code stands here once; `responses`, `explain` and the documents read it here. What one thread alone claims is
never marked as documented. It is plain data and cheap to import, for it is part of a dialer's process.
"""

from collections.abc import Mapping
from typing import Final

from call_initiation.calls.meanings import CONCERNS, FIND_THE_CALL, Meaning, Source
from call_initiation.events import Category

_RENEW: Final = "Get a new token before the old one ends; it lasts for as many seconds as `expires_in` says."
_GRANT: Final = "Look at the message: it names what is missing. Give it to the roles of the token's owner."
_CLIENT: Final = "Look at the OAuth client's id, secret and grant type, and at the region of the login service."
_BACK_OFF: Final = (
    "Wait as many seconds as `Retry-After` says, and pace the dialer: 300 requests a minute are allowed for each token."
)
_LEG: Final = "Look at the agent's phone: the call had been accepted, and then the agent's own leg of it failed."

CODES: Final[Mapping[str, Meaning]] = {
    # -- documented: the official API definition of 2017 lists them for this endpoint
    "conversation.error.no.user.station": Meaning(
        Category.STATION,
        "The agent has no station, and a call needs one.",
        "Have the agent choose a station, or log in to the phone; `agents --ready` shows who has none.",
    ),
    "too.many.create.conversation.parameters": Meaning(
        Category.DESTINATION,
        "The request names more than one destination.",
        "Keep one of phoneNumber, callQueueId, callUserId, participants and conversationIds. callUserId is who is "
        "called, never the agent.",
    ),
    "not.a.user": Meaning(
        Category.USER_CONTEXT,
        "The token belongs to no user: client credentials can't place a call as themselves.",
        "Use a token of the agent's own, or place the call on behalf of the agent at …/calls/user/{userId}; whether "
        "client credentials are taken there isn't known.",
    ),
    "not.a.participant": Meaning(
        Category.USER_CONTEXT,
        "The user takes no part in the conversation.",
        "Look whether the conversation's id and the token belong together, and whether the conversation still runs.",
    ),
    "invalid.date": Meaning(
        Category.SCHEMA, "A date isn't written as ISO 8601 has it.", "Write it like 2026-01-31T09:30:00.000Z."
    ),
    "invalid.value": Meaning(
        Category.SCHEMA,
        "A property's value isn't allowed for its type.",
        "Look at the message: it names the field. A phone number is text, in quotes.",
    ),
    "request.entity.too.large": Meaning(
        Category.SCHEMA,
        "The request's body is longer than 512,000 bytes.",
        "Look what fills it: `attributes` are for a few short texts.",
    ),
    "unsupported.media.type": Meaning(
        Category.SCHEMA,
        "The request's Content-Type isn't one that the API takes.",
        "Send Content-Type: application/json.",
    ),
    "authentication.required": Meaning(
        Category.AUTHENTICATION,
        "The request carries no bearer token.",
        "Send Authorization: Bearer, and look whether a proxy on the way drops it.",
    ),
    "bad.credentials": Meaning(
        Category.AUTHENTICATION,
        "The token isn't a valid one.",
        "Look whether it was revoked, or comes from another region's login service; then get a new one.",
    ),
    "credentials.expired": Meaning(Category.AUTHENTICATION, "The token has expired.", _RENEW),
    "ip.not.authorized": Meaning(
        Category.AUTHENTICATION,
        "The organisation takes no requests from this address.",
        "Have the dialer's address added to the organisation's allowed ones.",
    ),
    "missing.permissions": Meaning(Category.PERMISSION, "The token's owner lacks a permission that is needed.", _GRANT),
    "missing.any.permissions": Meaning(
        Category.PERMISSION, "The token's owner has none of the permissions of which one is needed.", _GRANT
    ),
    "not.authorized": Meaning(Category.PERMISSION, "The token's owner may not do this.", _GRANT),
    "forbidden": Meaning(Category.PERMISSION, "The token's owner may not do this.", _GRANT),
    "client.timeout": Meaning(
        Category.TIMEOUT,
        "The request didn't come in whole in time.",
        "Look at the dialer's connection: the body came too slowly, or never to its end.",
    ),
    "authentication.request.timeout": Meaning(
        Category.TIMEOUT,
        "The platform's own authentication didn't answer in time.",
        "Look at the platform's status page.",
    ),
    "request.timeout": Meaning(Category.TIMEOUT, "The platform didn't answer in time.", FIND_THE_CALL),
    "too.many.requests.retry.after": Meaning(Category.RATE_LIMIT, "More requests came than are allowed.", _BACK_OFF),
    "too.many.requests": Meaning(
        Category.RATE_LIMIT, "More requests came than are allowed; the older one of two codes for it.", _BACK_OFF
    ),
    "providerapi.error.station.no.active.edge": Meaning(
        Category.PROVIDER,
        "The agent's station has no active edge.",
        "Look at the edges of the station's site; other agents there fail the same way.",
    ),
    "providerapi.error.no.station.for.edge": Meaning(
        Category.PROVIDER,
        "The edge doesn't know the agent's station.",
        "Look whether the station still belongs to that edge's site.",
    ),
    "bad.request": Meaning(
        Category.UNKNOWN,
        "The request was refused; it doesn't say why.",
        "Look at details[] and at the message, then at the payload and at the agent's state as of the send.",
        is_generic=True,
    ),
    "not.found": Meaning(
        Category.UNKNOWN,
        "What the path names doesn't exist, or the token may not see it.",
        "Look at the ids in the path, and whether they are of this region's organisation.",
        is_generic=True,
    ),
    "resource.not.found": Meaning(
        Category.UNKNOWN,
        "What the path names doesn't exist, or the token may not see it.",
        "Look at the ids in the path, and whether they are of this region's organisation.",
        is_generic=True,
    ),
    "response.entity.too.large": Meaning(
        Category.UNKNOWN,
        "The answer would have been too long.",
        "Ask Genesys, with the correlation id: a call's answer is short.",
        is_generic=True,
    ),
    "unauthorized": Meaning(
        Category.AUTHENTICATION,
        "The token wasn't accepted; it doesn't say why.",
        "Look at the message, then at the token's age, its region and its permissions.",
        is_generic=True,
    ),
    "general.conflict": Meaning(
        Category.CONFLICT,
        "The request doesn't fit what else is going on; when this is said of a call isn't known.",
        CONCERNS[Category.CONFLICT].advice,
        is_generic=True,
    ),
    "general.resource.conflict": Meaning(
        Category.CONFLICT,
        "Something else changed the same thing at the same time; when this is said of a call isn't known.",
        CONCERNS[Category.CONFLICT].advice,
        is_generic=True,
    ),
    "internal.server.error": Meaning(
        Category.PROVIDER, "The platform failed.", CONCERNS[Category.PROVIDER].advice, is_generic=True
    ),
    "service.unavailable": Meaning(
        Category.PROVIDER,
        "The platform can't answer at the moment.",
        f"Look at the platform's status page. {FIND_THE_CALL}",
        is_generic=True,
    ),
    # -- standard: RFC 6749 (sections 4.1.2.1 and 5.2) and RFC 6750 (section 3.1)
    "invalid_client": Meaning(
        Category.AUTHENTICATION,
        "The login service doesn't know the client, or not by this secret.",
        _CLIENT,
        Source.STANDARD,
    ),
    "invalid_grant": Meaning(
        Category.AUTHENTICATION, "What the token was asked for with isn't valid any more.", _CLIENT, Source.STANDARD
    ),
    "invalid_token": Meaning(
        Category.AUTHENTICATION, "The token is expired, revoked or malformed.", _RENEW, Source.STANDARD
    ),
    "unauthorized_client": Meaning(
        Category.AUTHENTICATION, "This client may not ask for tokens in this way.", _CLIENT, Source.STANDARD
    ),
    "insufficient_scope": Meaning(
        Category.PERMISSION,
        "The token's scope doesn't reach so far.",
        "Give the OAuth client the scope `conversations`.",
        Source.STANDARD,
    ),
    "access_denied": Meaning(Category.PERMISSION, "The login service, or the user, refused.", _CLIENT, Source.STANDARD),
    "unsupported_grant_type": Meaning(
        Category.SCHEMA, "The login service doesn't know this grant type.", _CLIENT, Source.STANDARD
    ),
    "invalid_scope": Meaning(
        Category.SCHEMA, "The scope that was asked for isn't known, or is too wide.", _CLIENT, Source.STANDARD
    ),
    "server_error": Meaning(
        Category.PROVIDER, "The login service failed.", "Look at the platform's status page.", Source.STANDARD
    ),
    "temporarily_unavailable": Meaning(
        Category.PROVIDER, "The login service can't answer now.", "Look at the platform's status page.", Source.STANDARD
    ),
    "invalid_request": Meaning(
        Category.UNKNOWN,
        "The request for a token, or its token, is malformed.",
        "Look how the token was asked for, and how it is sent.",
        Source.STANDARD,
        is_generic=True,
    ),
    # -- own: `answers` and those who refuse on the gateway's behalf
    "call_initiation.gateway.timeout": Meaning(
        Category.TIMEOUT,
        "The gateway waited in vain; the message says whether the request was sent.",
        f"Look at X-Call-Initiation-Outcome. {FIND_THE_CALL}",
        Source.OWN,
    ),
    "call_initiation.gateway.answer_lost": Meaning(
        Category.TRANSPORT, "The call was sent, and its answer was lost.", FIND_THE_CALL, Source.OWN
    ),
    "call_initiation.gateway.unreachable": Meaning(
        Category.TRANSPORT,
        "The gateway didn't reach the API; no call was placed.",
        "Look at the gateway's `--upstream`, its DNS and its way out.",
        Source.OWN,
    ),
    "call_initiation.gateway.overloaded": Meaning(
        Category.RATE_LIMIT,
        "The gateway had too much under way; no call was placed.",
        "Slow down, or set up another gateway beside it.",
        Source.OWN,
    ),
    "call_initiation.gateway.draining": Meaning(
        Category.TRANSPORT,
        "The gateway was about to end; no call was placed.",
        "Look who stops it, and let dialers leave it first; the call may be placed through another one.",
        Source.OWN,
    ),
    "call_initiation.gateway.unknown_dialer": Meaning(
        Category.AUTHENTICATION,
        "The gateway asks for a secret that the dialer didn't tell; no call was placed.",
        "Send X-Call-Initiation-Secret with the secret that the gateway's settings have.",
        Source.OWN,
    ),
    "call_initiation.gateway.no_such_route": Meaning(
        Category.UNKNOWN,
        "The gateway doesn't forward this path.",
        "Look at the path; `--forward-all` lets the rest of the API pass.",
        Source.OWN,
    ),
    "call_initiation.gateway.method_not_allowed": Meaning(
        Category.UNKNOWN, "The gateway doesn't forward this method.", "Start calls with POST.", Source.OWN
    ),
    "call_initiation.gateway.too_large": Meaning(
        Category.SCHEMA,
        "The request's body is longer than the API takes; no call was placed.",
        "Look what fills it: `attributes` are for a few short texts.",
        Source.OWN,
    ),
    "call_initiation.gateway.too_slow": Meaning(
        Category.TIMEOUT,
        "The dialer's request didn't come in whole in time; no call was placed.",
        "Look at the dialer's connection to the gateway.",
        Source.OWN,
    ),
    **{
        f"call_initiation.gateway.{code}": Meaning(
            Category.SCHEMA,
            "The gateway takes only clear HTTP/1.1, and this wasn't; no call was placed.",
            "Look at the message, then at the dialer's HTTP client.",
            Source.OWN,
        )
        for code in ("malformed", "expectation", "version", "head_too_large", "target_too_long")
    },
    # -- observed: in `participants[].errorInfo` of calls that had been accepted
    "error.ininedgecontrol.connection.timeout": Meaning(
        Category.PROVIDER, "The agent's phone wasn't reached for about a minute.", _LEG, Source.OBSERVED
    ),
    "error.ininedgecontrol.connection.dialplan.notReachable": Meaning(
        Category.PROVIDER,
        "The dial plan finds no way to the agent's phone.",
        "Look at the station's number and at the site's number plans.",
        Source.OBSERVED,
    ),
    "error.ininedgecontrol.connection.webrtc.endpoint.disconnect": Meaning(
        Category.PROVIDER, "The agent's WebRTC phone hung up, or lost its connection.", _LEG, Source.OBSERVED
    ),
    "error.ininedgecontrol.connection.webrtc.endpoint.disconnect.iceIdleDetection": Meaning(
        Category.PROVIDER,
        "No media came from the agent's WebRTC phone.",
        "Look at the agent's network: a firewall or VPN may keep media from passing.",
        Source.OBSERVED,
    ),
    "error.ininedgecontrol.connection.webrtc.mediaHelperRequired": Meaning(
        Category.PROVIDER,
        "The agent's WebRTC phone needs its media helper, which didn't run.",
        "Have the agent start it.",
        Source.OBSERVED,
    ),
    "error.ininedgecontrol.session.inactive": Meaning(
        Category.PROVIDER, "The session of the agent's phone had ended.", _LEG, Source.OBSERVED
    ),
    # -- claimed: one community thread only
    "INVALID_AGENT_STATE": Meaning(
        Category.AGENT_STATE,
        "One thread says: the agent was Busy, on a call, or else in no state to place one.",
        "Look at the state that the agent was in when the call was sent; the thread asks for Available or wrap-up.",
        Source.CLAIMED,
    ),
}
"""Codes as they are written; the documented ones are a lower bound of what the API sends."""
