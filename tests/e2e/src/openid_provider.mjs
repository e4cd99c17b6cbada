// An OpenID provider that is not ours: npm's oidc-provider with its own pages. Its argument is the
// folder of the package. It prints where it listens, reads the redirect URL of its one client, and
// prints that it is ready.
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const { Provider } = await import(pathToFileURL(join(process.argv[2], "node_modules/oidc-provider/lib/index.js")));
const server = createServer();
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  console.log(issuer);
  createInterface({ input: process.stdin }).once("line", (redirect) => {
    const provider = new Provider(issuer, {
      clients: [{ client_id: "keygate", client_secret: "secret of keygate: a/b+c", redirect_uris: [redirect] }],
      pkce: { required: () => true },
    });
    server.on("request", provider.callback());
    console.log("ready");
  });
});
