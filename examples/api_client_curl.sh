#!/usr/bin/env bash
# Talk to the agent with curl: chat, stream, a tool question, a session that goes on, reset.
#
# With `make demo` or `make serve` in another terminal:
#
#   bash examples/api_client_curl.sh
#
# BASE_URL and API_KEY say where the server is, and with which key. Python takes the text out of the answers.
set -euo pipefail

base_url=${BASE_URL:-http://127.0.0.1:23000}
api_key=${API_KEY:-none}
session=curl-example-$$

api() {
  curl --silent --show-error --fail-with-body --no-buffer --header "Authorization: Bearer $api_key" \
    --header "Content-Type: application/json" --header "X-Session-ID: $session" "$@"
}

# The text of an answer that came as a whole.
text() {
  python3 -c 'import json, sys; print(json.load(sys.stdin)["choices"][0]["message"]["content"])'
}

# The text of an answer that comes in pieces, each as soon as it is there.
texts() {
  python3 -c '
import json, sys
for line in sys.stdin:
    if line.startswith("data: {"):
        for choice in json.loads(line[6:])["choices"]:
            print(choice["delta"].get("content") or "", end="", flush=True)
print()'
}

if ! models=$(api "$base_url/v1/models" 2>/dev/null); then
  if [ -n "$models" ]; then
    echo "$models"
    echo "Set API_KEY to one of the server's keys."
  else
    echo "No server answers at $base_url. Start one with \`make demo\`, or set BASE_URL to where it is."
  fi >&2
  exit 1
fi
model=$(sed 's/.*"data":\[{"id":"\([^"]*\)".*/\1/' <<<"$models")

echo "# Chat"
api "$base_url/v1/chat/completions" \
  --data "{\"model\": \"$model\", \"messages\": [{\"role\": \"user\", \"content\": \"Hello! My name is Mina.\"}]}" | text

echo
echo "# The session goes on: only what is new needs to be sent"
api "$base_url/v1/chat/completions" \
  --data "{\"model\": \"$model\", \"messages\": [{\"role\": \"user\", \"content\": \"What is my name?\"}]}" | text

echo
echo "# A question that needs a tool, streamed"
api "$base_url/v1/chat/completions" \
  --data "{\"model\": \"$model\", \"stream\": true, \"messages\": [{\"role\": \"user\", \"content\": \"서울 날씨 알려줘\"}]}" | texts

echo
echo "# Reset: the same session, with nothing in it"
api --request POST "$base_url/v1/sessions/$session/reset"
echo
