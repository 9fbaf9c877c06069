"""The losses of CLIP and SigLIP are those of transformers' models, on what these embed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.methods import CLIP, SigLIP

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
PHOTO, TITLE = {**TOWER, "image_size": 16, "patch_size": 8}, {**TOWER, "vocab_size": 40, "max_position_embeddings": 6}


@pytest.mark.parametrize("name", ["clip", "sig_lip"])
def test_loss_and_gradients(name):
    torch.manual_seed(0)
    if name == "clip":
        config = transformers.CLIPConfig(vision_config=PHOTO, text_config=TITLE, projection_dim=8)
        model, method = transformers.CLIPModel(config), CLIP()
    else:
        title = TITLE | {"projection_size": 16}
        model = transformers.SiglipModel(transformers.SiglipConfig(vision_config=PHOTO, text_config=title))
        method = SigLIP()
    photos, titles = torch.randn(6, 3, 16, 16), torch.randint(0, 40, (6, 6))
    output = model.train()(input_ids=titles, pixel_values=photos, return_loss=True)
    output.image_embeds.retain_grad(), output.text_embeds.retain_grad()
    output.loss.backward()

    def loss(photo, title, params):
        return method.compare(params, photo, title, jnp.ones(6, bool), None)[0]

    theirs = {"log_scale": model.logit_scale} | ({"bias": model.logit_bias} if name == "sig_lip" else {})
    params = {key: jnp.float32(parameter.item()) for key, parameter in theirs.items()}
    embeddings = [output.image_embeds, output.text_embeds]
    photo, title = (x.detach().numpy() for x in embeddings)
    value, (*by_embeddings, by_params) = jax.value_and_grad(loss, (0, 1, 2))(photo, title, params)
    assert float(value) == pytest.approx(output.loss.item(), rel=1e-5)
    for key, parameter in theirs.items():
        assert float(by_params[key]) == pytest.approx(parameter.grad.item(), rel=1e-4, abs=1e-5)
    for own, unit in zip(by_embeddings, embeddings, strict=True):
        x, gradient = unit.detach().numpy(), unit.grad.numpy()
        tangent = gradient - (gradient * x).sum(axis=1, keepdims=True) * x  # ours normalises what it gets
        np.testing.assert_allclose(own, tangent, atol=1e-5)
    assert set(params) == set(method.initial_scale())
    if name == "clip":
        assert float(params["log_scale"]) == pytest.approx(float(method.initial_scale()["log_scale"]), abs=1e-4)
