#!/usr/bin/env bash
# Talk to the agent with curl: chat, stream, a tool question, a session that goes on, reset.
# Run it beside `make demo` or `make serve`; BASE_URL and API_KEY say where and with which key.
set -euo pipefail

base_url=${BASE_URL:-http://127.0.0.1:23000}
api_key=${API_KEY:-none}
session=curl-example-$$

api() {
  curl --silent --show-error --fail-with-body --no-buffer --header "Authorization: Bearer $api_key" \
    --header "Content-Type: application/json" --header "X-Session-ID: $session" "$@"
  echo
}

model=$(api "$base_url/v1/models" | sed 's/.*"data":\[{"id":"\([^"]*\)".*/\1/')

echo "# Chat"
api "$base_url/v1/chat/completions" \
  --data "{\"model\": \"$model\", \"messages\": [{\"role\": \"user\", \"content\": \"Hello! My name is Mina.\"}]}"

echo "# The session goes on: only what is new needs to be sent"
api "$base_url/v1/chat/completions" \
  --data "{\"model\": \"$model\", \"messages\": [{\"role\": \"user\", \"content\": \"What is my name?\"}]}"

echo "# A question that needs a tool, streamed"
api "$base_url/v1/chat/completions" \
  --data "{\"model\": \"$model\", \"stream\": true, \"messages\": [{\"role\": \"user\", \"content\": \"서울 날씨 알려줘\"}]}"

echo "# Reset: the same session, with nothing in it"
api --request POST "$base_url/v1/sessions/$session/reset"
