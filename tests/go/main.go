// Verifies an export with software that knows nothing of its maker: Tessera's fsck, Go's own tlog and note packages, and
// the C2SP formats of transparency-dev.
//
//	checkexport FOLDER LOG-KEY [WITNESS-KEY]
//
// Proof files are read from FOLDER/proofs, where there are any.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/transparency-dev/formats/log"
	fnote "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/formats/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	if err := check(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func check(folder, logKey string, witnessKeys []string) error {
	verifier, err := note.NewVerifier(logKey)
	if err != nil {
		return err
	}
	raw, err := os.ReadFile(filepath.Join(folder, "checkpoint"))
	if err != nil {
		return err
	}
	checkpoint, _, _, err := log.ParseCheckpoint(raw, verifier.Name(), verifier)
	if err != nil {
		return err
	}
	fetcher := client.FileFetcher{Root: folder}
	if err := fsck.New(verifier.Name(), verifier, fetcher, leafHashes, fsck.Opts{N: 2}).Check(context.Background()); err != nil {
		return fmt.Errorf("tessera fsck: %w", err)
	}
	proofs, err := checkProofs(folder, verifier, checkpoint)
	if err != nil {
		return err
	}
	if err := checkTiles(folder, checkpoint); err != nil {
		return fmt.Errorf("sumdb/tlog: %w", err)
	}
	for _, key := range witnessKeys {
		if err := checkWitness(key, raw); err != nil {
			return fmt.Errorf("witness: %w", err)
		}
	}
	fmt.Printf("%d entries, %d proofs, %d witnesses\n", checkpoint.Size, proofs, len(witnessKeys))
	return nil
}

func leafHashes(bundle []byte) ([][]byte, error) {
	entries := &api.EntryBundle{}
	if err := entries.UnmarshalText(bundle); err != nil {
		return nil, err
	}
	var hashes [][]byte
	for _, entry := range entries.Entries {
		hashes = append(hashes, rfc6962.DefaultHasher.HashLeaf(entry))
	}
	return hashes, nil
}

// tiles reads tiles for Go's tlog, whose paths have the tile's height after "tile".
type tiles struct{ folder string }

func (t tiles) Height() int                     { return 8 }
func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}
func (t tiles) ReadTiles(wanted []tlog.Tile) (data [][]byte, err error) {
	for _, tile := range wanted {
		raw, err := os.ReadFile(filepath.Join(t.folder, strings.Replace(tile.Path(), "tile/8/", "tile/", 1)))
		if err != nil {
			return nil, err
		}
		data = append(data, raw)
	}
	return data, nil
}

// checkTiles proves the first, a middle and the last entry, and that the tree grew from half its size.
func checkTiles(folder string, checkpoint *log.Checkpoint) error {
	size := int64(checkpoint.Size)
	tree := tlog.Tree{N: size, Hash: tlog.Hash(checkpoint.Hash)}
	hashes := tlog.TileHashReader(tree, tiles{folder})
	for _, index := range []int64{0, size / 2, size - 1} {
		stored, err := hashes.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
		if err != nil {
			return err
		}
		record, err := tlog.ProveRecord(size, index, hashes)
		if err != nil {
			return err
		}
		if err := tlog.CheckRecord(record, size, tree.Hash, index, stored[0]); err != nil {
			return err
		}
	}
	half := (size + 1) / 2
	root, err := tlog.TreeHash(half, hashes)
	if err != nil {
		return err
	}
	grown, err := tlog.ProveTree(size, half, hashes)
	if err != nil {
		return err
	}
	return tlog.CheckTree(grown, size, tree.Hash, half, root)
}

func checkProofs(folder string, verifier note.Verifier, checkpoint *log.Checkpoint) (int, error) {
	files, err := filepath.Glob(filepath.Join(folder, "proofs", "*.tlog-proof"))
	if err != nil {
		return 0, err
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return 0, err
		}
		var found proof.TLogProof
		if err := found.Unmarshal(raw); err != nil {
			return 0, err
		}
		under, _, _, err := log.ParseCheckpoint(found.Checkpoint, verifier.Name(), verifier)
		if err != nil {
			return 0, err
		}
		if !bytes.Equal(under.Hash, checkpoint.Hash) {
			return 0, errors.New("the proof is under another checkpoint")
		}
		var path tlog.RecordProof
		for _, hash := range found.Hashes {
			path = append(path, hash)
		}
		root, leaf := tlog.Hash(under.Hash), tlog.RecordHash(found.ExtraData)
		if err := tlog.CheckRecord(path, int64(under.Size), root, int64(found.Index), leaf); err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
	}
	return len(files), nil
}

// checkWitness opens the checkpoint with the witness's key alone.
func checkWitness(key string, checkpoint []byte) error {
	verifier, err := fnote.NewVerifierForCosignatureV1(key)
	if err != nil {
		return err
	}
	opened, err := note.Open(checkpoint, note.VerifierList(verifier))
	if err != nil {
		return err
	}
	_, err = fnote.CoSigV1Timestamp(opened.Sigs[0])
	return err
}
