# Train the teachers that err, once each: run.sh sources this in work/, with data/cifar100.h5 in place.
for name in noise20 noise40 tenth; do
    cmp -s "$here/$trial/teacher.yaml" "made/$name/params.yaml" || rm -rf "made/$name"  # other settings: another teacher
    mkdir -p "made/$name"
    cp "$here/$trial/teacher.yaml" "made/$name/params.yaml"
    (
        cd "made/$name"
        if [ "$name" = tenth ]; then
            ln -sfn ../../data/raw .
            given=(--set prepare.dataset=cifar100 --set prepare.raw=raw/cifar-100-python --set prepare.subset=50)
            given+=(--set teachers.teacher.epochs=100)
        else
            [ -f images.h5 ] || python "$here/experiments/noisy_labels.py" ../../data/cifar100.h5 "0.${name#noise}" images.h5
            given=()
        fi
        prepkd prepare "${given[@]}"
        # A finished teacher stays, though `train-teacher` would train it anew.
        [ -f models/teachers/teacher/model.json ] || prepkd train-teacher teacher "${given[@]}"
    )
done
