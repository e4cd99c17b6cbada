// An OpenID provider that is not ours: npm's oidc-provider with its own pages, which it shows at another
// origin than its endpoints, as large providers do. Its argument is the folder of the package. It prints
// where it listens, reads the redirect URL of its one client, and prints that it is ready.
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const { Provider } = await import(pathToFileURL(join(process.argv[2], "node_modules/oidc-provider/lib/index.js")));
const listening = (server) => new Promise((ready) => {
  server.listen(0, "127.0.0.1", () => ready(`http://127.0.0.1:${server.address().port}`));
});
const [server, pages] = [createServer(), createServer()];
const [issuer, shown] = [await listening(server), await listening(pages)];
console.log(issuer);
createInterface({ input: process.stdin }).once("line", (redirect) => {
  const provider = new Provider(issuer, {
    clients: [{ client_id: "keygate", client_secret: "secret of keygate: a/b+c", redirect_uris: [redirect] }],
    pkce: { required: () => true },
  });
  const answer = provider.callback();
  pages.on("request", answer);
  server.on("request", (request, response) => {
    if (!request.url.startsWith("/interaction/")) return answer(request, response);
    response.writeHead(303, { location: shown + request.url }).end();
  });
  console.log("ready");
});
