// Places calls with the official JavaScript SDK, unchanged, through its own gateway setting; prints what it got as JSON.
//
// Arguments: the ports of gateways (or of whatever stands for the API) with commas between, how many calls to place at
// each, an agent's token.

const sdk = require("purecloud-platform-client-v2");

const [ports, calls, token] = process.argv.slice(2);

async function place() {
  try {
    const { id } = await new sdk.ConversationsApi().postConversationsCalls({ phoneNumber: "+33199000000" });
    return { id };
  } catch (error) {
    const { status = null, code = null } = error || {};
    return { status, code };
  }
}

(async () => {
  sdk.ApiClient.instance.setAccessToken(token);
  for (const port of ports.split(",")) {
    sdk.ApiClient.instance.setGateway({ host: "127.0.0.1", protocol: "http", port: Number(port) });
    const results = [];
    for (let n = 0; n < Number(calls); n++) results.push(await place());
    console.log(JSON.stringify(results));
  }
  process.exit(0);
})();
