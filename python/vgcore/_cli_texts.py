"""Layer: command line, texts. What the help of each command says and teaches.

Knows words alone: names of cells, activations and so on are added by `cli`.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "CHECK",
    "CHECK_EPILOG",
    "DOCTOR",
    "DOCTOR_EPILOG",
    "EXIT_CODES",
    "MAIN",
    "MAIN_EPILOG",
    "PROBE",
    "PROBE_EPILOG",
    "STUDY",
    "STUDY_EPILOG",
]

EXIT_CODES: Final = """\
exit codes:
  0    done
  1    failed while running (a cell of a study failed, a file cannot be written, ...)
  2    the command line or one of its values makes no sense
  130  stopped with Ctrl-C
"""

MAIN: Final = """\
Measure how gradients vanish or explode through very deep networks and very long sequences.

Norms are kept with their exponents, so that a gradient of 1e-6270 is a number here and not 0.
"""

MAIN_EPILOG: Final = (
    """\
examples:
  vgcore study                                   the canonical study on 1,797 real images, table and pictures
  vgcore probe --depth 1000 --activation tanh    what happens in one network, and why
  vgcore probe --cell lstm --length 1000         the same in a recurrent network, step by step back in time
  vgcore doctor --depth 100 --activation sigmoid which cures help that network, tried and ranked
  vgcore check                                   gradients of all activations and cells against differences
  vgcore describe rezero                         formula, parameters and source of anything in a catalogue
  vgcore info --json                             version, threads, peak speed and what training reaches

Each command explains itself: vgcore study --help
"""
    + "\n"
    + EXIT_CODES
)

STUDY: Final = """\
Probe every combination of depth, activation, initializer and seed with one backward pass each, on
scikit-learn's digits (1,797 real images of 8 x 8 pixels, 10 classes, cross-entropy).

Without arguments: depths 10, 100, 1,000 and 10,000; sigmoid, tanh, relu, selu; glorot_normal, he_normal,
orthogonal; width 64; one seed.

With --cell, --length or --task the networks are recurrent: every combination of cell, length and seed, on the
sequences of a task. Then: cells rnn, lstm, gru; lengths 100 and 1,000; task adding; hidden size 64.
"""

STUDY_EPILOG: Final = (
    """\
what it writes into the directory of --out:
  summary.txt   the table that is printed
  table.csv     every quantity of every network, one row each
  study.json    the study itself: run it again with --from study.json
  cells.jsonl   finished networks; a run that was stopped goes on from here
  *.png, *.svg  gradient norm against layer, decades per layer, rate against depth

how to read the table:
  1e-627.3 vanishing    the gradient that reaches the first layer has norm 10^-627.3
  decades/layer         powers of ten gained (+) or lost (-) per layer on the way back
  0 in float32          counted back from the output, the layer from which on plain float32 gradients read
                        zero
  decades/step          the same per time step; of an lstm that of dL/dc_t, the path of its memory
  half-life             time steps after which the gradient has halved

examples:
  vgcore study
  vgcore study --depth 50,500 --activation gelu,mish --init he_normal --seeds 0,1,2
  vgcore study --set bias=false --set dtype=float64 --out double
  vgcore study --depth 100 --cures none,rezero,residual+batch_norm
  vgcore study --task adding --cell rnn,lstm,gru --length 100,1000,10000
  vgcore study --task digits_pixels --cell lstm --set forget_bias=null,1,3 --seeds 0,1,2
  vgcore study --from vgcore-study/study.json --out again
  vgcore study --json > study-result.json
"""
    + "\n"
    + EXIT_CODES
)

PROBE: Final = """\
Probe one network with one backward pass and say what its gradient does: verdict, rate with a 95 %
interval, how many layers float32, float16 and others carry it, and which signs of trouble show.

With --cell, --length or --task the network is recurrent and the gradient is followed back in time; then: cell
lstm, 1,000 steps, task adding, 32 sequences.
"""

PROBE_EPILOG: Final = (
    """\
examples:
  vgcore probe --depth 1000 --activation sigmoid
  vgcore probe --depth 100000 --width 32 --activation tanh --init orthogonal --input random --batch 16
  vgcore probe --depth 300 --activation relu --plot flow.png --save flow.npz
  vgcore probe --depth 50 --set skip=residual --json
  vgcore probe --depth 200 --activation leaky_relu:0.2 --init normal:std=0.1
  vgcore probe --depth 500 --activation sigmoid --cures activation:tanh+rezero
  vgcore probe --cell lstm --length 1000 --task adding
  vgcore probe --cell gru --task mnist_pixels --width 128 --set chrono=784 --plot flow.png
"""
    + "\n"
    + EXIT_CODES
)

DOCTOR: Final = """\
Say what is wrong with a network, try cures on it, and rank them by what they did.

The untouched network and every cure start from the same weights, see the same batches and are trained for a
few steps at three learning rates, of which the best counts. The best cures are then tried in pairs; along
time, where nothing has helped, the most promising go on for more steps with Adam. Nothing is recommended
that was not run; a healthy network is said to be healthy.

With --cell, --length or --task the network is recurrent; then: cell lstm, 100 steps, task adding.
"""

DOCTOR_EPILOG: Final = (
    """\
how to read the ranking:
  *              helped: a loss at least 5 % below the untouched network's and the best constant answer's
  decades/layer  powers of ten that the gradient gains (+) or loses (-) per layer, before training
  theory         the same, as mean-field theory expects it; - where it says nothing
  layers learn   share of layers whose weights the gradient moved, weight decay and constraints aside, by at
                 least a hundredth of what the most moved did
  cost           time of a training step beside the untouched network's

examples:
  vgcore doctor --depth 100 --activation sigmoid
  vgcore doctor --depth 50 --activation relu --set sigma_w2=0.2 --cures init:he_normal,batch_norm,rezero
  vgcore doctor --cell lstm --set forget_bias=-3 --length 60 --steps 200
  vgcore doctor --depth 100 --activation tanh --cures residual+layer_norm,highway --json
"""
    + "\n"
    + EXIT_CODES
)

CHECK: Final = """\
Check gradients against differences: every entry's error is taken relative to its size, and zeros
everywhere or differences too noisy to judge by are no pass.

Without options: every activation's slope, and every cell in a short recurrent network. --activations and
--cells choose some; --depth, --cell, --set and other options of a network check that network step by step
and as a whole.
"""

CHECK_EPILOG: Final = (
    """\
how to read the table:
  largest relative error  of all entries compared; - where the check failed, with the reason below the table
  entries                 derivatives that were compared

examples:
  vgcore check
  vgcore check --activations gelu,mish --dtype float32
  vgcore check --depth 20 --width 8 --activation tanh --cures pre_activation+layer_norm --input random
  vgcore check --cell lstm --width 8 --length 8 --json
"""
    + "\n"
    + EXIT_CODES.replace("failed while running (a", "a gradient is wrong, or failed while running (a")
)
