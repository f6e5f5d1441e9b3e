"""
A stand-in of the Fish Audio API over HTTP. It imports nothing of the rest, and the rest imports nothing of it.

It is stateful (create a voice, look until it is trained, narrate with it), strict (what the hosted API is documented to
refuse, it refuses) and measured (`GET /_config/requests` tells every request in order). Its sound is **not** a clone of
anybody: `quick` is a row of tones, `neural` an English reader moved towards the pitch and the formants of the reference.

What it cannot show about the hosted API, because nobody has called that for this project:

- how a real clone sounds, how long one takes, and that the same request gives other sound each time (`vary` changes
  the bytes, not the reading);
- whether a text, a reference or a body is too long: no limit is documented, so none is held here;
- whether a failed or abandoned request is billed: here whatever is accepted is, and what a fault answers with an error
  is not; nor how late the wallet follows (here at once, or after `wallet_lag`);
- whether an abandoned request keeps its slot: here until the server would have answered;
- which requests count against the concurrency limit, and whether keys share it: here all below `/v1/`, by key, because
  a key is an account here;
- the exact bodies of 402, 413, 429 and 5xx, whether `Retry-After` ever comes, and what the edge in front answers;
- whether the filters of `GET /model` are exact (here `title` is a part of the title and every `tag` must be there) and
  how soon a new voice is listed (here at once);
- when the live WebSocket begins to speak: here once `chunk_length` characters wait, and at `flush` and `stop`; each of
  these texts is encoded by itself, so that MP3 and Ogg are chains of streams; how long one may stay silent: here for ever;
- where the words of the timestamp stream really are: of the neural voice they are shared out by their length;
- what a dialogue does with a speaker that no voice was given for: here the first voice reads it;
- recognition of anything but English, and of speakers: `/v1/asr` hears everything as English;
- how voices of the public library sound: a dozen of their ids are here, each at a pitch of its own;
- the cues in parentheses that S1 knows: here they are read out;
- `/v1/voice-design`, which the SDK does not reach: it answers 501; nor is there `/v1/tts/live/with-timestamp`.

Where two sources about it disagree there is a knob, whose description names both (see `flows.sandbox.config`).
"""
