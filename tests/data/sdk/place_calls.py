"""Places calls with the official Python SDK, unchanged, through its own gateway setting; prints what it got as JSON.

Arguments: the ports of gateways (or of whatever stands for the API) with commas between, how many calls to place at
each, and an agent's token, or an OAuth client's id and secret, for which the SDK then gets a token.
"""

import json
import sys
from typing import Any

import PureCloudPlatformClientV2 as Sdk
from PureCloudPlatformClientV2.rest import ApiException


def place(client: Any) -> dict[str, Any]:
    """Place one call; return its id, or what was said instead."""
    request = Sdk.CreateCallRequest()
    request.phone_number = "+33199000000"
    try:
        return {"id": Sdk.ConversationsApi(client).post_conversations_calls(request).id}
    except ApiException as error:
        return {"status": error.status, "body": error.body}
    except Exception as error:  # noqa: BLE001 - urllib3's, mostly
        return {"raised": type(error).__name__}


ports, calls, *credentials = sys.argv[1:]
for port in ports.split(","):
    sdk = Sdk.api_client.ApiClient()
    sdk.set_gateway("127.0.0.1", "http", int(port), "", "")
    match credentials:
        case [token]:
            sdk.access_token = token
        case [client_id, client_secret]:
            sdk.get_client_credentials_token(client_id, client_secret)
    print(json.dumps([place(sdk) for _ in range(int(calls))]))  # noqa: T201 - its output
