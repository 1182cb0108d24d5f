"""The API of text-generation-inference (TGI), on top of the same generator as our own routes.

`parameters` and `grammar` are what a body may ask, `request` the body, `call` what it means;
`answers` has a call answered, with the shapes of `responses` that `presentation` and `stream` fill
(`token_text` writes their tokens); `errors` words failures; `tokens` are the answers of tokenising.
`routes` are the paths that only TGI has. `POST /generate` and `/tokenize` are shared: `app/routes`
hands bodies with `inputs` on to here.
"""
