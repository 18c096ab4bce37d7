"""The parts of a message's content, in the form of chat completions. Pure."""

from collections.abc import Sequence

from server.errors import InvalidRequest
from server.messages.shapes import ContentPart, File, ImageUrl, InputAudio
from server.responses.items import Part
from server.sessions.speech import MESSAGE_SEPARATOR


def load_content(content: str | Sequence[Part], param: str) -> str | list[ContentPart]:
    """Return text, or parts in the form of chat completions; `param` is their place in the request.

    Raises:
        InvalidRequest: a part is of a kind that is not known, or lacks what it needs.
    """
    if isinstance(content, str):
        return content
    if len(content) > 1 and all(part.type == "output_text" for part in content):
        return MESSAGE_SEPARATOR.join(part.text or "" for part in content)
    return [_part(part, f"{param}[{index}]") for index, part in enumerate(content)]


def _part(part: Part, param: str) -> ContentPart:
    """Return a part in the form of chat completions; what is wrong with that is found when it is loaded."""
    match part.type:
        case "input_text" | "output_text" | "text":
            return ContentPart(type="text", text=part.text)
        case "refusal":
            return ContentPart(type="refusal", refusal=part.refusal)
        case "input_image" if part.image_url:
            return ContentPart(type="image_url", image_url=ImageUrl(url=part.image_url, detail=part.detail))
        case "input_file" if not part.file_url:
            file = File(filename=part.filename, file_data=part.file_data, file_id=part.file_id)
            return ContentPart(type="file", file=file)
        case "input_audio" if part.input_audio:
            audio = InputAudio(data=part.input_audio.data, format=part.input_audio.format)
            return ContentPart(type="input_audio", input_audio=audio)
        case "input_image":
            message = f"Invalid '{param}': this server has no files. Send the image in 'image_url', as a data URL."
            raise InvalidRequest(message, param=f"{param}.image_url", code="missing_required_parameter")
        case "input_file":
            message = f"Invalid '{param}.file_url': this server fetches no files. Send the file in 'file_data'."
            raise InvalidRequest(message, param=f"{param}.file_url", code="unsupported_parameter")
    known = "'input_text', 'output_text', 'refusal', 'input_image', 'input_file' and 'input_audio'"
    message = f"Invalid value: '{part.type[:100]}'. Supported values are: {known}."
    raise InvalidRequest(message, param=f"{param}.type", code="invalid_value")
